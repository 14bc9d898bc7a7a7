"""Training itself: augmentation, losses, recipes, the order of samples, the run and its checkpoints."""
