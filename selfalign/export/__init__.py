"""A run's rows as data sets that TRL loads as they are: query -> Arrow batches -> files, with a card beside them.

Nothing imports this package but the command line: a run does not depend on what is taken out of it.
"""
