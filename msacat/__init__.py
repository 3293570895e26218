"""msacat: survey files in, a crossmatched and enriched star catalogue out."""
