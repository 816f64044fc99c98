"""Charts and tables of the report, one module per chapter; each function of a frame returns one."""
