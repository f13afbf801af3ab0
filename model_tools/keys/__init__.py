"""The fleet's offline keys: the ceremony, and rotating, revoking, signing and renewing what the keys vouch for (TUF 1.0, sections 4.3 to 4.5 and 6)."""
