"""The scorers that come with deattrib: one file, one entry point each, using only what `deattrib` exports."""
