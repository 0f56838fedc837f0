# The shell library of init scripts and uci-defaults: the part of OpenWrt's that the project's scripts use.

NO_EXPORT=1
LIST_SEP=" "

append() { # variable, value, separator
	local separator="${3:- }" before
	eval "before=\"\$$1\""
	eval "$1=\"\${before:+\$before\$separator}\$2\""
}

list_contains() { # variable, word
	local words
	eval "words=\" \$$1 \""
	case "$words" in
	*" $2 "*) return 0 ;;
	esac
	return 1
}

# UCI files become the variables CONFIG_<section>_<option>, by evaluating what `uci export` prints.
reset_cb() {
	config_cb() { return 0; }
	option_cb() { return 0; }
	list_cb() { return 0; }
}
reset_cb

package() { return 0; }

config() {
	CONFIG_NUM_SECTIONS=$((${CONFIG_NUM_SECTIONS:-0} + 1))
	CONFIG_SECTION="${2:-cfg$CONFIG_NUM_SECTIONS}"
	append CONFIG_SECTIONS "$CONFIG_SECTION"
	config_set "$CONFIG_SECTION" TYPE "$1"
	config_cb "$1" "$CONFIG_SECTION"
}

option() {
	config_set "$CONFIG_SECTION" "$1" "$2"
	option_cb "$1" "$2"
}

list() {
	local count
	config_get count "$CONFIG_SECTION" "${1}_LENGTH" 0
	count=$((count + 1))
	config_set "$CONFIG_SECTION" "${1}_ITEM$count" "$2"
	config_set "$CONFIG_SECTION" "${1}_LENGTH" "$count"
	append "CONFIG_${CONFIG_SECTION}_$1" "$2" "$LIST_SEP"
	list_cb "$1" "$2"
}

config_load() {
	local text
	[ -n "$IPKG_INSTROOT" ] && return 0
	CONFIG_SECTIONS=
	CONFIG_NUM_SECTIONS=0
	CONFIG_SECTION=
	text="$(uci -q export "$1")" || return 1
	eval "$text"
}

config_set() { # section, option, value
	eval "CONFIG_$1_$2=\"\$3\""
}

config_get() { # variable, section, option, default; or section, option
	case "$2$3" in
	*[!A-Za-z0-9_]*) return 0 ;;
	esac
	if [ -n "$3" ]; then
		eval "$1=\"\${CONFIG_$2_$3:-\$4}\""
	else
		eval "echo \"\$CONFIG_$1_$2\""
	fi
}

config_get_bool() { # variable, section, option, default
	local _bool
	config_get _bool "$2" "$3" "$4"
	case "$_bool" in
	1 | on | true | yes | enabled) _bool=1 ;;
	0 | off | false | no | disabled) _bool=0 ;;
	*) _bool="$4" ;;
	esac
	eval "$1=\$_bool"
}

config_foreach() { # function, type, arguments
	local _function="$1" _type="$2" _section _found
	[ "$#" -ge 2 ] && shift
	shift
	for _section in $CONFIG_SECTIONS; do
		config_get _found "$_section" TYPE
		[ -z "$_type" ] || [ "$_found" = "$_type" ] || continue
		"$_function" "$_section" "$@"
	done
}

config_list_foreach() { # section, option, function, arguments
	local _section="$1" _option="$2" _function="$3" _count _index=1 _value
	shift 3
	config_get _count "$_section" "${_option}_LENGTH" 0
	while [ "$_index" -le "$_count" ]; do
		config_get _value "$_section" "${_option}_ITEM$_index"
		"$_function" "$_value" "$@"
		_index=$((_index + 1))
	done
}

uci_get() { uci -q get "$1${2:+.$2}${3:+.$3}"; }
uci_set() { uci set "$1.$2.$3=$4"; }
uci_commit() { uci commit "$1"; }

board_name() { cat /tmp/sysinfo/board_name; }

# Maintainer scripts of packages call these, in the ImageBuilder (IPKG_INSTROOT set) and on the router.
package_list() { # package
	local list="$IPKG_INSTROOT/usr/lib/opkg/info/$1.list"
	[ -f "$IPKG_INSTROOT/lib/apk/packages/$1.list" ] && list="$IPKG_INSTROOT/lib/apk/packages/$1.list"
	cat "$list" 2>/dev/null
}

package_services() { # package
	package_list "$1" | grep '^/etc/init.d/'
}

default_postinst() {
	local name="${pkgname:-$(basename "${1%.*}")}" own script result=0
	if [ -z "$IPKG_INSTROOT" ]; then
		package_list "$name" | grep -q '^/etc/modules.d/' && kmodloader
		for script in $(package_list "$name" | grep '^/etc/uci-defaults/'); do
			[ -f "$script" ] && ( . "$script" ) && rm -f "$script"
		done
		uci commit
	fi
	own="$IPKG_INSTROOT/usr/lib/opkg/info/$name.postinst-pkg"
	if [ -f "$own" ]; then
		( . "$own" ) || result=$?
	fi
	for script in $(package_services "$name"); do
		if [ -n "$IPKG_INSTROOT" ]; then
			bash "$IPKG_INSTROOT/etc/rc.common" "$IPKG_INSTROOT$script" enable
		else
			[ "$PKG_UPGRADE" = 1 ] || "$script" enable
			"$script" start
		fi
	done
	return "$result"
}

default_prerm() {
	local name="${pkgname:-$(basename "${1%.*}")}" own script result=0
	own="$IPKG_INSTROOT/usr/lib/opkg/info/$name.prerm-pkg"
	if [ -f "$own" ]; then
		( . "$own" ) || result=$?
	fi
	for script in $(package_services "$name"); do
		if [ -n "$IPKG_INSTROOT" ]; then
			bash "$IPKG_INSTROOT/etc/rc.common" "$IPKG_INSTROOT$script" disable
		else
			[ "$PKG_UPGRADE" = 1 ] || "$script" disable
			"$script" stop
		fi
	done
	return "$result"
}
