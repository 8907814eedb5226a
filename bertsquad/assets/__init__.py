"""Files, downloaded and derived, each verified before it is used."""
