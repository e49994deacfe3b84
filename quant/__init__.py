"""Number formats, calibration with brevitas, and quantization of policies."""
