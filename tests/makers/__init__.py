"""What tests of several rooms make, so that no test imports another test."""
