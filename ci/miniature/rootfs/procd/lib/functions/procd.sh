# procd's service interface, for the calls that the project's init scripts make. A service is a folder in
# /var/run/procd, an instance a folder in it with the file `definition` (shell assignments) and its supervisor's pid.
# Whatever this shim does not implement ends the script with an error.

PROCD_STATE=/var/run/procd

procd_missing() {
	echo "procd.sh: $* is not implemented in the miniature" >&2
	logger -t procd -p daemon.err "$initscript: $* is not implemented in the miniature"
	exit 1
}

for _call in procd_add_raw_trigger procd_add_config_trigger procd_add_interface_trigger procd_add_mount_trigger \
	procd_add_reload_data_trigger procd_add_reload_interface_trigger procd_add_action_mount_trigger \
	procd_add_reload_mount_trigger procd_add_restart_mount_trigger procd_get_mountpoints procd_add_jail \
	procd_add_jail_mount procd_add_jail_mount_rw procd_add_validation procd_open_validate procd_close_validate \
	procd_open_data procd_close_data procd_add_mdns procd_add_mdns_service procd_set_config_changed procd_lock \
	uci_validate_section uci_load_validate; do
	eval "$_call() { procd_missing $_call; }"
done
unset _call

procd_quote() { # arguments, as words that the shell reads back
	local word
	for word in "$@"; do
		printf " '%s'" "$(printf %s "$word" | sed "s/'/'\\\\''/g")"
	done
}

rc_procd() { # function that declares the service, arguments
	procd_open_service "$(service_name)" "$initscript"
	"$@"
	procd_close_service
}

procd_open_service() {
	_service="$1"
	_sequence=0
	_new="$PROCD_STATE/.new.$_service.$$"
	rm -rf "$_new"
	mkdir -p "$_new"
}

procd_open_instance() {
	_sequence=$((_sequence + 1))
	_instance="${1:-instance$_sequence}"
	mkdir -p "$_new/$_instance"
	: >"$_new/$_instance/definition"
	: >"$_new/$_instance/files"
}

procd_set_param() {
	local kind="$1"
	shift
	_definition="$_new/$_instance/definition"
	case "$kind" in
	command | env | limits | data | file | netdev | respawn)
		eval "_param_$kind=\"\$(procd_quote \"\$@\")\""
		procd_write "$kind"
		;;
	stdout | stderr | term_timeout | nice | pidfile | reload_signal)
		[ "$#" = 1 ] || procd_missing "procd_set_param $kind with $# values"
		eval "_param_$kind=\"\$(procd_quote \"\$1\")\""
		procd_write "$kind"
		;;
	*) procd_missing "procd_set_param $kind" ;;
	esac
}

procd_append_param() {
	local kind="$1"
	shift
	case "$kind" in
	command | env | limits | data | file | netdev)
		eval "_param_$kind=\"\$_param_$kind\$(procd_quote \"\$@\")\""
		procd_write "$kind"
		;;
	*) procd_missing "procd_append_param $kind" ;;
	esac
}

procd_write() { # kind
	local words path
	eval "words=\"\$_param_$1\""
	sed -i "/^$1=/d" "$_definition"
	printf '%s="%s"\n' "$1" "$(printf %s "$words" | sed 's/[\\"$`]/\\&/g')" >>"$_definition"
	[ "$1" = file ] || return 0
	eval "set -- $words"
	: >"$_new/$_instance/files"
	for path in "$@"; do
		md5sum "$path" >>"$_new/$_instance/files" 2>/dev/null
	done
}

procd_close_instance() {
	local kind
	grep -q '^command=' "$_new/$_instance/definition" || procd_missing "an instance without command"
	for kind in command env limits data file netdev respawn stdout stderr term_timeout nice pidfile reload_signal; do
		unset "_param_$kind"
	done
}

procd_add_instance() {
	procd_open_instance
	procd_set_param command "$@"
	procd_close_instance
}

procd_open_trigger() { return 0; }
procd_close_trigger() { return 0; }

procd_add_reload_trigger() {
	local name
	for name in "$@"; do
		echo "$name" >>"$_new/triggers"
	done
}

procd_close_service() {
	local now="$PROCD_STATE/$_service" folder instance reload_signal
	service_triggers
	mkdir -p "$now"
	rm -f "$now/triggers"
	[ -f "$_new/triggers" ] && mv "$_new/triggers" "$now/triggers"
	for folder in "$now"/*/; do
		[ -d "$folder" ] || continue
		instance="$(basename "$folder")"
		[ -d "$_new/$instance" ] || procd_stop "$_service" "$instance"
	done
	for folder in "$_new"/*/; do
		[ -d "$folder" ] || continue
		instance="$(basename "$folder")"
		if procd_running "$_service" "$instance" && cmp -s "$folder/definition" "$now/$instance/definition"; then
			cmp -s "$folder/files" "$now/$instance/files" && continue
			reload_signal=
			. "$folder/definition"
			if [ -n "$reload_signal" ]; then
				eval "set -- $reload_signal"
				cp "$folder/files" "$now/$instance/files"
				procd_send_signal "$_service" "$instance" "$1"
				continue
			fi
		fi
		procd_stop "$_service" "$instance"
		mv "${folder%/}" "$now/$instance"
		# Its own session, so that it outlives the terminal; nothing of the caller stays open in it.
		setsid /lib/procd/supervise "$_service" "$instance" </dev/null >/dev/null 2>&1 &
		procd_wait_started "$now/$instance"
	done
	rm -rf "$_new"
}

procd_wait_started() { # folder: until the supervisor wrote its pid
	local tries=0
	while [ ! -s "$1/supervisor" ] && [ "$tries" -lt 100 ]; do
		usleep 20000
		tries=$((tries + 1))
	done
}

procd_stop() { # service, instance
	local folder="$PROCD_STATE/$1/$2" supervisor
	[ -d "$folder" ] || return 0
	supervisor="$(cat "$folder/supervisor" 2>/dev/null)"
	if [ -n "$supervisor" ] && kill -TERM "$supervisor" 2>/dev/null; then
		while kill -0 "$supervisor" 2>/dev/null; do
			usleep 50000
		done
	fi
	rm -rf "$folder"
}

procd_kill() { # service, instance
	local folder
	if [ -n "$2" ]; then
		procd_stop "$1" "$2"
		return 0
	fi
	for folder in "$PROCD_STATE/$1"/*/; do
		[ -d "$folder" ] && procd_stop "$1" "$(basename "$folder")"
	done
	rm -rf "${PROCD_STATE:?}/$1"
}

procd_instance_running() { # folder
	local pid
	pid="$(cat "$1/pid" 2>/dev/null)"
	[ -n "$pid" ] && kill -0 "$pid" 2>/dev/null
}

procd_running() { # service, instance
	local folder
	for folder in "$PROCD_STATE/$1"/${2:-*}/; do
		[ -d "$folder" ] && procd_instance_running "$folder" && return 0
	done
	return 1
}

procd_send_signal() { # service, instance, signal
	local folder pattern="$2"
	[ -n "$pattern" ] || pattern='*'
	for folder in "$PROCD_STATE/$1"/$pattern/; do
		procd_instance_running "$folder" && kill "-${3:-HUP}" "$(cat "$folder/pid")"
	done
	return 0
}

procd_status() { # service, instance
	local folder total=0 running=0
	if [ ! -d "$PROCD_STATE/$1" ]; then
		echo inactive
		return 3
	fi
	for folder in "$PROCD_STATE/$1"/${2:-*}/; do
		[ -d "$folder" ] || continue
		total=$((total + 1))
		procd_instance_running "$folder" && running=$((running + 1))
	done
	if [ "$total" = 0 ]; then
		[ -n "$2" ] && { echo "unknown instance $2"; return 4; }
		echo "active with no instances"
	elif [ "$running" = "$total" ]; then
		echo running
	elif [ "$running" -gt 0 ]; then
		echo "running ($running/$total)"
	else
		echo "not running"
		return 5
	fi
}
