"""What the runs mean: studies and their records become statistics, tables and figures.

Everything here reads run records and nothing else, so it can be rebuilt anywhere without training.
It never reaches back into how a network is trained.
"""
