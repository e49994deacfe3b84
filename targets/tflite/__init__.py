"""TFLite files, float32, int8 and int16x8, run in LiteRT and TFLite Micro."""
