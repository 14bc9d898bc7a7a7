"""What a hand is: its joints, its cube, its voxels and its heat maps."""
