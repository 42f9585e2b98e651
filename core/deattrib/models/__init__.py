"""Language models as this library sees them: token batches, likelihoods, sampling, and the policy that is trained."""
