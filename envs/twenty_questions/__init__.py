"""``parley/TwentyQuestions-v0``: an agent finds out what the user is thinking of, in questions of yes and no."""
