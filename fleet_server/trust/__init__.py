"""What the fleet trusts: the device CA, the TUF repository and the keys that the server holds online."""
