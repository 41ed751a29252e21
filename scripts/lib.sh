# shellcheck shell=bash
# Functions shared by the scripts of this project. The caller has set `-euo pipefail` and stands in the project's root.

say() { printf '%s\n' "$(basename "$0"): $*" >&2; }
die() {
    printf '%s\n' "error: $*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

target_dir() { printf '%s' "${CARGO_TARGET_DIR:-$PWD/target}"; }

# ---------------------------------------------------------------------------------------------------------------------
# Packages

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ -t 0 ]; then
        sudo "$@"
    else
        sudo -n "$@"
    fi
}

# Installs Debian packages. Packaged services are kept from starting: they would take the standard ports.
apt_install() {
    have apt-get || die "$* missing, and no apt-get here: install the equivalent with this system's package manager"
    [ "$(id -u)" -eq 0 ] || have sudo || die "$* missing: run 'apt-get install $*' as root, then this command again"
    as_root true || die "$* missing and sudo was refused: run 'sudo apt-get install $*', then this command again"

    say "apt-get install $*"
    local log
    log=$(mktemp)
    if ! (with_services_held apt_get_install "$@") >"$log" 2>&1 </dev/null; then
        tail -n 20 "$log" >&2
        die "apt-get install $* failed; its last lines are above, all of them in $log"
    fi
    rm -f "$log"
}

apt_get_install() {
    local quiet=(-y -qq -o DPkg::Lock::Timeout=120)
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update "${quiet[@]}"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install "${quiet[@]}" --no-install-recommends "$@"
}

# Runs a command in this (sub)shell while Debian's policy-rc.d forbids the start of services.
with_services_held() {
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    "$@"
}

# ---------------------------------------------------------------------------------------------------------------------
# Tools

need_rust() {
    have cargo || PATH="$HOME/.cargo/bin:$PATH"
    have cargo || die "no Rust toolchain: install one with rustup (https://rustup.rs), then run this command again"

    local wanted found
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(cargo --version | cut -d' ' -f2)
    at_least "$found" "$wanted" || die "cargo $found is too old, $wanted is needed: run 'rustup update stable'"
}

# Succeeds if version $1 is $2 or newer.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# SQLite and the TLS library's primitives are built from C.
need_c_compiler() { have cc || apt_install gcc libc6-dev; }

# The fault tests start servers of their own, so the programs are needed even where shared servers answer.
need_server_programs() {
    local missing=()
    rabbitmq_programs >/dev/null || missing+=(rabbitmq-server)
    redis-cli --version >/dev/null 2>&1 && redis-server --version >/dev/null 2>&1 || missing+=(redis-server)
    [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
    rabbitmq_programs >/dev/null || die "the programs of RabbitMQ were not found under /usr/lib/rabbitmq/bin"

    local found
    found=$(redis-server --version | sed 's/.* v=\([0-9.]*\).*/\1/')
    at_least "$found" 7.0 || die "redis-server $found is too old, 7.0 is needed: set TEST_REDIS_URL and put a newer one in PATH"
}

# The server's own scripts: what is in PATH on Debian is a wrapper that insists on the packaged user and paths.
rabbitmq_programs() {
    local dir
    for dir in "${RABBITMQ_HOME:-/usr/lib/rabbitmq}"/{bin,sbin}; do
        if [ -x "$dir/rabbitmq-server" ] && [ -x "$dir/rabbitmqctl" ]; then
            printf '%s' "$dir"
            return
        fi
    done
    return 1
}

# A virtual environment with the Python libraries some tests drive.
need_python() {
    local venv
    venv="$(target_dir)/test-python"
    install_python testkit/python/requirements.txt "$venv"
    export TEST_PYTHON="$venv/bin/python"
}

# Makes the virtual environment $2 with the libraries of $1; again when their list changes.
install_python() {
    local requirements=$1 venv=$2 stamp
    [ -f "$requirements" ] || die "$requirements is missing: is this a complete checkout?"
    python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv

    stamp=$(sha256sum "$requirements" | cut -d' ' -f1)
    if [ "$(cat "$venv/.requirements" 2>/dev/null)" != "$stamp" ]; then
        say "python: installing $requirements into $venv"
        python3 -m venv --clear "$venv"
        "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check -r "$requirements"
        printf '%s\n' "$stamp" >"$venv/.requirements"
    fi
}

# The Node libraries some tests drive.
need_node() {
    local dir
    dir="$(target_dir)/test-node"
    install_node testkit/node "$dir"
    TEST_NODE=$(command -v node)
    export TEST_NODE TEST_NODE_MODULES="$dir/node_modules"
}

# Installs the packages of the lock file in $1 into $2; again when it changes.
install_node() {
    local source=$1 dir=$2 stamp
    npm --version >/dev/null 2>&1 || apt_install nodejs npm
    stamp=$(cat "$source/package.json" "$source/package-lock.json" | sha256sum | cut -d' ' -f1)
    if [ "$(cat "$dir/.lock" 2>/dev/null)" != "$stamp" ]; then
        say "node: installing $source/package-lock.json into $dir"
        mkdir -p "$dir"
        cp "$source/package.json" "$source/package-lock.json" "$dir/"
        (cd "$dir" && npm ci --engine-strict --no-audit --no-fund --silent </dev/null)
        printf '%s\n' "$stamp" >"$dir/.lock"
    fi
}

need_chromium() {
    chromium_program >/dev/null || apt_install chromium
    TEST_CHROMIUM=$(chromium_program) || die "chromium was installed but is not in PATH"
    export TEST_CHROMIUM
}

chromium_program() { command -v chromium || command -v chromium-browser || command -v google-chrome; }

# ---------------------------------------------------------------------------------------------------------------------
# Servers for tests
#
# Afterwards TEST_AMQP_URL and TEST_REDIS_URL name servers on which tests may make virtual hosts and keys of their own,
# and TEST_AMQP_ADMIN_URL that broker's management HTTP API where it is not beside it on port 15672. What was started
# here stops with this shell.

started_pids=()
started_in_docker=
scratch=

need_servers() {
    scratch=$(mktemp -d "${TMPDIR:-/tmp}/tokencache-test.XXXXXX")
    trap stop_servers EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM

    local missing=()
    use_given_rabbitmq || use_standard_rabbitmq || missing+=(rabbitmq)
    use_given_redis || use_standard_redis || missing+=(redis)
    [ ${#missing[@]} -eq 0 ] || use_docker "${missing[@]}" || start_private "${missing[@]}"
}

use_given_rabbitmq() {
    [ -n "${TEST_AMQP_URL:-}" ] || return 1
    say "rabbitmq: TEST_AMQP_URL"
    export TEST_AMQP_URL
}

use_given_redis() {
    [ -n "${TEST_REDIS_URL:-}" ] || return 1
    say "redis: TEST_REDIS_URL"
    export TEST_REDIS_URL
}

# A broker that answers is used only if the tests can log in to it and make virtual hosts on it.
use_standard_rabbitmq() {
    listens 5672 || return 1
    if ! guest_manages_over_http && ! rabbitmqctl --quiet authenticate_user guest guest >/dev/null 2>&1; then
        say "rabbitmq: 127.0.0.1:5672 answers, but neither its management HTTP API (as guest) nor rabbitmqctl: not used"
        return 1
    fi
    say "rabbitmq: the one at 127.0.0.1:5672"
    export TEST_AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f
}

guest_manages_over_http() {
    python3 - 2>/dev/null <<'PYTHON'
import base64, urllib.request
guest = "Basic " + base64.b64encode(b"guest:guest").decode()
request = urllib.request.Request("http://127.0.0.1:15672/api/whoami", headers={"Authorization": guest})
urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5)
PYTHON
}

use_standard_redis() {
    listens 6379 || return 1
    if [ "$(timeout 5 redis-cli -h 127.0.0.1 -p 6379 ping 2>/dev/null)" != PONG ]; then
        say "redis: 127.0.0.1:6379 answers, but not to a PING without a password: not used"
        return 1
    fi
    say "redis: the one at 127.0.0.1:6379"
    export TEST_REDIS_URL=redis://127.0.0.1:6379
}

# Starts the named services of docker-compose.yml with passwords of their own, beside any project already running.
use_docker() {
    have docker && timeout 20 docker info >/dev/null 2>&1 && docker compose version >/dev/null 2>&1 || return 1
    say "docker compose up $*"
    new_env >"$scratch/env"
    chmod 600 "$scratch/env"
    started_in_docker=yes
    if ! test_compose up --detach --wait --wait-timeout 180 "$@" >"$scratch/compose.log" 2>&1 </dev/null; then
        tail -n 5 "$scratch/compose.log" >&2
        say "docker compose did not bring them up: private servers instead"
        stop_docker
        return 1
    fi
    local service
    for service in "$@"; do "export_docker_$service"; done
}

test_compose() { docker compose --project-name tokencache-test --env-file "$scratch/env" "$@"; }

export_docker_rabbitmq() {
    TEST_AMQP_URL="amqp://admin:$(env_value RABBITMQ_ADMIN_PASSWORD)@127.0.0.1:5672/%2f"
    export TEST_AMQP_URL
}

export_docker_redis() {
    TEST_REDIS_URL="redis://admin:$(env_value REDIS_ADMIN_PASSWORD)@127.0.0.1:6379"
    export TEST_REDIS_URL
}

env_value() { sed -n "s/^$1=//p" "$scratch/env"; }

# Prints .env.example with a random value for each password.
new_env() {
    local line
    while IFS= read -r line; do
        case $line in
            *_PASSWORD=*) printf '%s=%s\n' "${line%%=*}" "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" ;;
            *) printf '%s\n' "$line" ;;
        esac
    done <.env.example
}

start_private() {
    local service
    for service in "$@"; do "start_private_$service"; done
}

start_private_redis() {
    local port dir="$scratch/redis"
    port=$(free_port)
    mkdir "$dir"
    redis-server --bind 127.0.0.1 --port "$port" --dir "$dir" --save '' --enable-debug-command local \
        >"$dir/log" 2>&1 </dev/null &
    started_pids+=($!)
    wait_listening redis "$port" $! "$dir/log"
    say "redis: a private one on port $port"
    export TEST_REDIS_URL="redis://127.0.0.1:$port"
}

# A node of its own in every respect: name, cookie, directories, ports, and the port mapper that Erlang nodes use.
start_private_rabbitmq() {
    local port admin_port epmd_port dir="$scratch/rabbitmq"
    port=$(free_port)
    admin_port=$(free_port)
    epmd_port=$(free_port)
    mkdir "$dir"
    printf 'management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %s\n' "$admin_port" >"$dir/rabbitmq.conf"
    printf '[rabbitmq_management].\n' >"$dir/enabled_plugins"
    : >"$dir/rabbitmq-env.conf"

    ERL_EPMD_PORT="$epmd_port" epmd >"$dir/epmd.log" 2>&1 </dev/null &
    started_pids+=($!)
    # Told that it runs under systemd, the server's script becomes the server: the pid is then the one to stop.
    env RUNNING_UNDER_SYSTEMD=true HOME="$dir" ERL_EPMD_PORT="$epmd_port" RABBITMQ_NODENAME="tokencache-$port@localhost" \
        RABBITMQ_NODE_IP_ADDRESS=127.0.0.1 RABBITMQ_NODE_PORT="$port" RABBITMQ_DIST_PORT="$(free_port)" \
        RABBITMQ_MNESIA_BASE="$dir/data" RABBITMQ_LOG_BASE="$dir/log" RABBITMQ_PID_FILE="$dir/pid" \
        RABBITMQ_CONFIG_FILE="$dir/rabbitmq.conf" RABBITMQ_CONF_ENV_FILE="$dir/rabbitmq-env.conf" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$dir/enabled_plugins" \
        "$(rabbitmq_programs)/rabbitmq-server" >"$dir/out" 2>&1 </dev/null &
    started_pids+=($!)
    wait_listening rabbitmq "$admin_port" $! "$dir/out"
    wait_listening rabbitmq "$port" $! "$dir/out"
    say "rabbitmq: a private one on port $port"
    export TEST_AMQP_URL="amqp://guest:guest@127.0.0.1:$port/%2f" TEST_AMQP_ADMIN_URL="http://127.0.0.1:$admin_port"
}

# A port below 32768: above, the kernel hands the same numbers to outgoing connections.
free_port() {
    local port
    while port=$((20000 + RANDOM % 10000)); do
        listens "$port" || break
    done
    printf '%s' "$port"
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

wait_listening() {
    local name=$1 port=$2 pid=$3 log=$4 deadline=$((SECONDS + 60))
    until listens "$port"; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            tail -n 20 "$log" >&2
            die "the private $name did not start; the last lines of its log are above"
        fi
        sleep 0.1
    done
}

stop_servers() {
    stop_docker
    local index
    for ((index = ${#started_pids[@]} - 1; index >= 0; index--)); do stop_pid "${started_pids[index]}"; done
    [ -z "$scratch" ] || rm -rf "$scratch"
}

stop_docker() {
    [ -n "$started_in_docker" ] || return 0
    started_in_docker=
    test_compose down --volumes >/dev/null 2>&1 || say "docker compose down failed: see 'docker compose ls'"
}

stop_pid() {
    local pid=$1 deadline=$((SECONDS + 20))
    kill -TERM "$pid" 2>/dev/null || return 0
    while kill -0 "$pid" 2>/dev/null; do
        [ "$SECONDS" -lt "$deadline" ] || kill -KILL "$pid" 2>/dev/null || true
        sleep 0.1
    done
}
