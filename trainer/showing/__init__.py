"""What a person sees of data and of runs: progress, logs, curves, pictures."""
