"""Instruments: each measures the model as it is patched now, item by item, as a `Measurement`."""
