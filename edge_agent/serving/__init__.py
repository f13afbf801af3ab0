"""The models of this device for local applications: the Open Inference Protocol v2 over HTTP and gRPC."""
