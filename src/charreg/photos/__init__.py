"""Photographs to faces: reading, detection, crops, contact sheets, and the simulated crowds of the default run."""
