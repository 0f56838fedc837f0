# Sourced by the scripts in /etc/uci-defaults that give this image its first configuration.
#
# Every topic (system, network, …) keeps the number of the defaults that it has in system.sennit, so that an upgrade
# which kept the configuration does not set them again over what the user changed since.

# sennit_done TOPIC NUMBER: true if these defaults, or later ones, were set before.
sennit_done() {
	[ "$(uci -q get "system.sennit.$1" || echo 0)" -ge "$2" ]
}

# sennit_set_done TOPIC NUMBER: to be called last, when the topic's own package is complete.
sennit_set_done() {
	uci -q batch <<-UCI
		set system.sennit='sennit'
		set system.sennit.$1='$2'
		commit system
	UCI
}

# sennit_section PACKAGE TYPE OPTION VALUE: prints the first section of a type whose option has a value, as
# "@TYPE[INDEX]". Generated ids of anonymous sections differ between systems and must not be used.
sennit_section() {
	local index=0
	while uci -q get "$1.@$2[$index]" >/dev/null; do
		if [ "$(uci -q get "$1.@$2[$index].$3")" = "$4" ]; then
			echo "@$2[$index]"
			return 0
		fi
		index=$((index + 1))
	done
	return 1
}

# sennit_device_option: prints the option that names an interface's device: "ifname" up to 19.07, "device" since.
sennit_device_option() {
	if [ -n "$(uci -q get network.loopback.ifname)" ]; then
		echo ifname
	else
		echo device
	fi
}
