"""What a run gave: judged, kept in `result.json`, read back, compared and shown as a table."""
