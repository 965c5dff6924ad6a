"""Read detector frames: one reader per format."""
