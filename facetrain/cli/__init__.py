"""The command line: the app, its console, and how results are said in words."""
