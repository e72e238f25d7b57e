"""``parley/Sales-v0``: an agent sells bicycles to a buyer whose mind is a program."""
