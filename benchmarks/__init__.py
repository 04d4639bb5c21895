"""Side-by-side measurements: each command prints ratios of things measured in the same run."""
