"""The experiment: who meets whom, for how long, counted how."""
