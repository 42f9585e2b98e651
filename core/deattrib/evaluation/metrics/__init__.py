"""The metrics that come with the library, each a `deattrib.Metric`; a run finds them by the hook `metrics()`."""
