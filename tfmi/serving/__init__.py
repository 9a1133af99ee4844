"""The parts of the local server, from a version folder to the two protocols of TensorFlow Serving.

servable (one loaded version) ─► versions (one model) ─► models (all of them) ─► rest, grpc_service
"""
