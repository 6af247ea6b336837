"""The protocol over gRPC. Needs the extra `grpc`."""
