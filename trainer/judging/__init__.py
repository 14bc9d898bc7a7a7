"""How good a network or a file of predictions is."""
