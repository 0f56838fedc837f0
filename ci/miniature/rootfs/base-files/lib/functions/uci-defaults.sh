# For scripts in /etc/board.d: the port roles of a board, kept in /etc/board.json.
. /lib/functions.sh

board_config_update() { LAN_PORTS=; WAN_PORT=; }

ucidef_set_interface_lan() { LAN_PORTS="$1"; }
ucidef_set_interface_wan() { WAN_PORT="$1"; }
ucidef_set_interfaces_lan_wan() { LAN_PORTS="$1"; WAN_PORT="$2"; }

board_config_flush() {
	local port ports= count=0
	for port in $LAN_PORTS; do
		ports="$ports${ports:+, }\"$port\""
		count=$((count + 1))
	done
	{
		echo '{'
		printf '\t"model": { "id": "%s", "name": "%s" },\n' "$(board_name)" "$(cat /tmp/sysinfo/model)"
		printf '\t"network": {\n'
		if [ "$count" = 1 ]; then
			printf '\t\t"lan": { "device": %s, "protocol": "static" }' "$ports"
		else
			printf '\t\t"lan": { "ports": [ %s ], "protocol": "static" }' "$ports"
		fi
		[ -n "$WAN_PORT" ] && printf ',\n\t\t"wan": { "device": "%s", "protocol": "dhcp" }' "$WAN_PORT"
		printf '\n\t}\n}\n'
	} >/etc/board.json
}
