"""What is told of a request once it has been answered: a line in the log, and a trace."""
