#!/bin/sh
# Starts TensorFlow Serving on the models of this project. Further flags can be given as arguments.
#
#   TFMI_MODELS    folder that holds <model>/<version>/         (default: /models)
#   TFMI_CONFIG    folder with the *.config files               (default: /etc/tfmi)
#   TFMI_BATCHING  1 turns server-side batching on              (default: off)
set -eu

models=${TFMI_MODELS:-/models}
config=${TFMI_CONFIG:-/etc/tfmi}
server=$(command -v tensorflow_model_server) || {
    echo "error: tensorflow_model_server is not on the PATH" >&2
    exit 1
}

# A server without ScaNN's ops would fail to load such a version, and say so only deep in its log.
if ! grep -qF 'Scann>' "$server"; then
    for model in "$models"/*/; do
        [ -d "$model" ] || continue
        newest=$(ls "$model" | grep -E '^[0-9]+$' | sort -n | tail -n 1)
        if [ -n "$newest" ] && grep -qsF 'Scann>' "$model$newest/saved_model.pb"; then
            echo "error: $model$newest searches with ScaNN, and $server was built without ScaNN's ops." >&2
            echo "Export with --index exact, or use a server built with them: see serving/tf_serving/README.md." >&2
            exit 1
        fi
    done
fi

batching=
if [ "${TFMI_BATCHING:-0}" = 1 ]; then
    batching="--enable_batching=true --batching_parameters_file=$config/batching.config"
fi

# By default 4 x cores gRPC threads, beyond which callers are refused.
# shellcheck disable=SC2086 # $batching is two flags or none
exec "$server" \
    --port=8500 \
    --rest_api_port=8501 \
    --rest_api_timeout_in_ms=5000 \
    --grpc_max_threads=64 \
    --model_config_file="$config/models.config" \
    --model_config_file_poll_wait_seconds=60 \
    --file_system_poll_wait_seconds=5 \
    --monitoring_config_file="$config/monitoring.config" \
    $batching "$@"
