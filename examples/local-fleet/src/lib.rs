//! A lab of real Kubernetes API servers and a real NATS server as local processes.
