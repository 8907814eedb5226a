"""One HTML page about finished runs. Needs the extra `report`."""
