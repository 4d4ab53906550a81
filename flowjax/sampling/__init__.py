"""Many samples: one key each, in chunks, over devices."""
