"""The report of a run: figures from its store -> plots and tables -> one HTML file that needs no network."""
