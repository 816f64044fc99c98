"""Reports from notebooks: execution, checks, rendering, manifest and verification."""
