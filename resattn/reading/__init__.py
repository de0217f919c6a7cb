"""Reading the graph that a framework executes."""
