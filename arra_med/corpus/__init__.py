"""Study sets, corpora and teacher features: what was read from studies, as Parquet files beside their provenance."""
