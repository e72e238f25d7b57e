"""``parley/CarDealer-v0``: an agent sells cars to a buyer who haggles and whose mind is a program."""
