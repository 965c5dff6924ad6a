"""Write and read results: NeXus, ImageJ TIFF, NXtomo."""
