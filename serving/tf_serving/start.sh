#!/bin/sh
# Starts TensorFlow Serving on the models that models.config names. Further flags can be given as arguments.
#
#   TFMI_CONFIG     folder with the *.config files                                        (default: /etc/tfmi)
#   TFMI_BATCHING   1 turns server-side batching on                                       (default: off)
#   TFMI_SCANN_OPS  1: the server loads ScaNN's operations as a library, so that they are not in its own file   (default: look)
#
# One model that is missing or broken would keep the server from opening its ports for five and a half minutes, and then end it. So every
# model is looked at first, and what is wrong is said at once.
set -eu

config=${TFMI_CONFIG:-/etc/tfmi}
server=$(command -v tensorflow_model_server) || {
    echo "error: tensorflow_model_server is not on the PATH" >&2
    exit 1
}
[ -r "$config/models.config" ] || {
    echo "error: $config/models.config cannot be read; name its folder with TFMI_CONFIG" >&2
    exit 1
}

has_scann=${TFMI_SCANN_OPS:-0}
if [ "$has_scann" != 1 ] && grep -qF 'Scann>' "$server"; then
    has_scann=1
fi

problems=0
problem() {
    echo "error: model $1: $2" >&2
    problems=1
}

check_version() { # model, version folder
    for file in saved_model.pb variables/variables.index assets.extra/tf_serving_warmup_requests; do
        [ -s "$2/$file" ] || problem "$1" "$2/$file is missing or empty: the version was not copied completely. Copy it to a folder called tmp-..., then rename it"
    done
    ls "$2"/variables/variables.data-* >/dev/null 2>&1 || problem "$1" "$2/variables holds no variables.data-*: the version was not copied completely"
    if [ "$has_scann" != 1 ] && grep -qsF 'Scann>' "$2/saved_model.pb"; then
        problem "$1" "$2 searches with ScaNN, and $server was built without ScaNN's ops. Export with --index exact or partitioned, use a server built with them, or set TFMI_SCANN_OPS=1 if it loads them as a library: see serving/tf_serving/README.md"
    fi
}

# A line for each block "config { ... }" of models.config: its base_path and, if it says which, its versions, with a tab between them. The
# fields of a block come in any order, texts in either kind of quotes, lists with or without brackets. Comments do not count, and a path holds
# no quote.
models=$(sed -e 's/^[[:space:]]*#.*//' "$config/models.config" | tr '\n\r\t' '   ' | awk -v quote="'" '
    function token(pattern) { return match(text, pattern) ? substr(text, RSTART, RLENGTH) : "" }
    {
        count = split($0, blocks, /[^_[:alnum:]]config *:? *[{]/)
        for (number = 2; number <= count; number++) {
            text = blocks[number]
            gsub(quote, "\"", text)
            path = token("base_path *: *\"[^\"]*\"")
            sub(/^[^"]*"/, "", path)
            sub(/"$/, "", path)
            versions = ""
            while ((list = token("[^_[:alnum:]]versions *: *([[][0-9, ]*[]]|[0-9]+)")) != "") {
                text = substr(text, RSTART + RLENGTH)
                gsub(/[^0-9]+/, " ", list)
                versions = versions list
            }
            if (path != "") print path "\t" versions
        }
    }')
[ -n "$models" ] || {
    echo "error: $config/models.config names no model (no block \"config { ... base_path: ... }\")" >&2
    exit 1
}
tab=$(printf '\t')
while IFS= read -r line; do
    path=${line%%"$tab"*}
    versions=${line#*"$tab"}
    model=$(basename "$path")
    case $path in
    /*) ;;
    *)
        problem "$model" "the base_path $path of $config/models.config is not absolute, and the server takes no other"
        continue
        ;;
    esac
    if [ ! -d "$path" ]; then
        problem "$model" "there is no folder $path; train and export the model, or take it out of $config/models.config"
        continue
    fi
    [ -n "$versions" ] || versions=$(ls "$path" | grep -E '^[0-9]+$' | sort -n | tail -n 1)
    if [ -z "$versions" ]; then
        problem "$model" "$path holds no version (a folder whose name is a number)"
        continue
    fi
    for version in $versions; do
        if [ -d "$path/$version" ]; then
            check_version "$model" "$path/$version"
        else
            problem "$model" "$config/models.config asks for version $version, and there is no folder $path/$version"
        fi
    done
done <<MODELS
$models
MODELS
[ "$problems" = 0 ] || exit 1

batching=
if [ "${TFMI_BATCHING:-0}" = 1 ]; then
    batching="--enable_batching=true --batching_parameters_file=$config/batching.config"
fi

# With many arenas memory creeps up over version swaps by fragmentation; one keeps it flat for 3 to 4 % of throughput.
export MALLOC_ARENA_MAX="${MALLOC_ARENA_MAX:-1}"

# By default 4 x cores gRPC threads, beyond which callers are refused. With the default of 0 load threads and five retries a minute apart,
# one bad version keeps all other models from loading for five minutes. Labels of versions that are still loading at the start end the
# server unless they are allowed.
# shellcheck disable=SC2086 # $batching is two flags or none
exec "$server" \
    --port=8500 \
    --rest_api_port=8501 \
    --rest_api_timeout_in_ms=5000 \
    --grpc_max_threads=64 \
    --num_load_threads=2 \
    --max_num_load_retries=1 \
    --load_retry_interval_micros=5000000 \
    --allow_version_labels_for_unavailable_models=true \
    --model_config_file="$config/models.config" \
    --model_config_file_poll_wait_seconds=60 \
    --file_system_poll_wait_seconds=5 \
    --monitoring_config_file="$config/monitoring.config" \
    $batching "$@"
