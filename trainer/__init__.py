"""Training of the networks that `tracker` runs."""
