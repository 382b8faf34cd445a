"""What people and scripts are shown of the sources: the overview, its history, `check`, `top`."""
