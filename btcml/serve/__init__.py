"""HTTP service and dashboard: interfaces to the functions of the pipeline."""
