# UCI in awk: get set add add_list del_list delete rename reorder commit revert show export import batch.
#
# A package in memory: count[p] sections; id[p, i] their names in order; type[p, s]; unnamed[p, s];
# names[p, s] options in order, as a string of names; kind[p, s, o] is "option" or "list"; value[p, s, o] of an option;
# length_of[p, s, o] and item[p, s, o, n] of a list.
# A changed package lies whole in the staging folder until `commit` moves it into place.

BEGIN {
	config = ENVIRON["UCI_CONFIG"]; staged = ENVIRON["UCI_STAGED"]; quiet = ENVIRON["UCI_QUIET"]
	separator = ENVIRON["UCI_SEPARATOR"]; generated = ENVIRON["UCI_NAMES"]
	words = 0
	for (i = 1; i < ARGC; i++) word[words++] = ARGV[i]
	ARGC = 1
	status = words ? run() : usage("no command")
	save()
	exit status
}

function usage(what) {
	print "uci: " what > "/dev/stderr"
	return 255
}

function fail(what) {
	if (!quiet) print "uci: " what > "/dev/stderr"
	return 1
}

# One command in word[0..words-1].
function run(    verb, target, new) {
	verb = word[0]
	if (verb == "batch" && words == 1) return batch()
	if (verb == "show" || verb == "export" || verb == "commit" || verb == "revert" || verb == "changes")
		return whole(verb, words > 1 ? word[1] : "")
	if (verb == "import") return words == 2 ? import_package(word[1]) : usage("import needs the name of a package")
	if (verb == "add") return words == 3 ? add_section(word[1], word[2]) : usage("usage: uci add <config> <section-type>")
	if (words < 2) return usage("usage: uci " verb " <config>.<section>[.<option>]")
	target = word[1]
	if (verb == "get") return parse(target, 0) && !has_value ? get() : fail(parsed ? "Invalid argument" : message)
	if (verb == "delete" && words == 2) return parse(target, 0) ? remove() : fail(message)
	if (verb == "set" || verb == "add_list" || verb == "del_list" || verb == "rename" || verb == "reorder") {
		if (words != 2) return usage("usage: uci " verb " <name>=<value>")
		if (!parse(target, verb == "set")) return fail(message)
		if (!has_value || S == "") return fail("Invalid argument")
		if (verb == "set") return set()
		if (verb == "add_list") return add_list()
		if (verb == "del_list") return del_list()
		if (verb == "rename") return rename()
		return reorder()
	}
	return usage("the command `" verb "` is not implemented in the miniature")
}

# Splits `package.section.option=value` into P, S, O, V and loads P. A section may be missing only if `create`.
function parse(text, create,    at, left, parts, n) {
	parsed = 0; message = "Invalid argument"; P = S = O = V = ""
	at = index(text, "=")
	has_value = at > 0
	left = has_value ? substr(text, 1, at - 1) : text
	V = has_value ? substr(text, at + 1) : ""
	n = split(left, parts, ".")
	if (n < 1 || n > 3 || parts[1] !~ /^[A-Za-z0-9_-]+$/) return 0
	P = parts[1]
	if (!load(P)) { message = "Entry not found"; return 0 }
	if (n == 1) return parsed = 1
	if (n == 3) {
		O = parts[3]
		if (O !~ /^[A-Za-z0-9_-]+$/) return 0
	}
	S = section(P, parts[2])
	if (S == "") {
		if (create && n == 2 && parts[2] ~ /^[A-Za-z0-9_]+$/) S = parts[2]
		else { message = parts[2] ~ /^@/ || parts[2] ~ /^[A-Za-z0-9_]+$/ ? "Entry not found" : "Invalid argument"; return 0 }
	}
	return parsed = 1
}

# The name of a section given by name or as @type[index]; empty if there is none.
function section(p, text,    at, wanted, place, i, n, found) {
	if (text !~ /^@/) return ((p, text) in type) ? text : ""
	if (text !~ /^@[A-Za-z0-9_-]+\[-?[0-9]+\]$/) return ""
	at = index(text, "[")
	wanted = substr(text, 2, at - 2)
	place = substr(text, at + 1) + 0
	n = 0
	for (i = 0; i < count[p]; i++) if (type[p, id[p, i]] == wanted) found[n++] = id[p, i]
	if (place < 0) place += n
	return (place >= 0 && place < n) ? found[place] : ""
}

function get(    i, text) {
	if (S == "") return fail("Invalid argument")
	if (O == "") { print type[P, S]; return 0 }
	if (!((P, S, O) in kind)) return fail("Entry not found")
	if (kind[P, S, O] == "option") { print value[P, S, O]; return 0 }
	text = item[P, S, O, 1]
	for (i = 2; i <= length_of[P, S, O]; i++) text = text separator item[P, S, O, i]
	print text
	return 0
}

function set() {
	if (O == "") {
		if (V !~ /^[A-Za-z0-9_-]+$/) return fail("Invalid argument")
		if (!((P, S) in type)) new_section(P, S, 0)
		type[P, S] = V
	} else if (V == "") {
		if ((P, S, O) in kind) drop_option(P, S, O)
	} else {
		if ((P, S, O) in kind && kind[P, S, O] == "list") drop_option(P, S, O)
		put_option(P, S, O, V)
	}
	changed[P] = 1
	return 0
}

function add_section(p, t,    name) {
	if (p !~ /^[A-Za-z0-9_-]+$/ || t !~ /^[A-Za-z0-9_-]+$/) return fail("Invalid argument")
	if (!load(p)) return fail("Entry not found")
	name = new_name(p, t)
	new_section(p, name, 1)
	type[p, name] = t
	changed[p] = 1
	print name
	return 0
}

function add_list(    old) {
	if (O == "" || V == "") return fail("Invalid argument")
	if ((P, S, O) in kind && kind[P, S, O] == "option") {
		old = value[P, S, O]
		drop_option(P, S, O)
		put_item(P, S, O, old)
	}
	put_item(P, S, O, V)
	changed[P] = 1
	return 0
}

function del_list(    i, n, left) {
	if (O == "") return fail("Invalid argument")
	if (!((P, S, O) in kind) || kind[P, S, O] != "list") return 0
	n = 0
	for (i = 1; i <= length_of[P, S, O]; i++) if (item[P, S, O, i] != V) left[++n] = item[P, S, O, i]
	for (i = 1; i <= n; i++) item[P, S, O, i] = left[i]
	length_of[P, S, O] = n
	if (n == 0) drop_option(P, S, O)
	changed[P] = 1
	return 0
}

function remove(    parts, n, i, o) {
	if (S == "") return fail("Invalid argument")
	if (has_value) {
		if (!((P, S, O) in kind) || kind[P, S, O] != "list" || V !~ /^[0-9]+$/) return fail("Entry not found")
		if (V + 1 > length_of[P, S, O]) return fail("Entry not found")
		for (i = V + 1; i < length_of[P, S, O]; i++) item[P, S, O, i] = item[P, S, O, i + 1]
		if (--length_of[P, S, O] == 0) drop_option(P, S, O)
	} else if (O != "") {
		if (!((P, S, O) in kind)) return fail("Entry not found")
		drop_option(P, S, O)
	} else {
		n = split(names[P, S], parts, " ")
		for (i = 1; i <= n; i++) drop_option(P, S, parts[i])
		delete type[P, S]; delete unnamed[P, S]; delete names[P, S]
		n = 0
		for (i = 0; i < count[P]; i++) if (id[P, i] != S) id[P, n++] = id[P, i]
		count[P] = n
	}
	changed[P] = 1
	return 0
}

function rename(    parts, n, i) {
	if (V !~ /^[A-Za-z0-9_]+$/) return fail("Invalid argument")
	if (O != "") {
		if (!((P, S, O) in kind) || (P, S, V) in kind) return fail("Entry not found")
		copy_option(S, O, S, V)
		drop_option(P, S, O)
	} else {
		if ((P, V) in type) return fail("Invalid argument")
		type[P, V] = type[P, S]; unnamed[P, V] = 0
		n = split(names[P, S], parts, " ")
		for (i = 1; i <= n; i++) { copy_option(S, parts[i], V, parts[i]); drop_option(P, S, parts[i]) }
		for (i = 0; i < count[P]; i++) if (id[P, i] == S) id[P, i] = V
		delete type[P, S]; delete unnamed[P, S]; delete names[P, S]
	}
	changed[P] = 1
	return 0
}

function copy_option(from, o, to, n,    i) {
	if (kind[P, from, o] == "option") { put_option(P, to, n, value[P, from, o]); return }
	for (i = 1; i <= length_of[P, from, o]; i++) put_item(P, to, n, item[P, from, o, i])
}

function reorder(    i, n, left, place) {
	if (O != "" || V !~ /^[0-9]+$/) return fail("Invalid argument")
	n = 0
	for (i = 0; i < count[P]; i++) if (id[P, i] != S) left[n++] = id[P, i]
	place = V + 0 > n ? n : V + 0
	for (i = 0; i < place; i++) id[P, i] = left[i]
	id[P, place] = S
	for (i = place; i < n; i++) id[P, i + 1] = left[i]
	changed[P] = 1
	return 0
}

# Commands on a package, or on all of them.
function whole(verb, target,    list, n, i, bad) {
	if (verb == "changes") return usage("the command `changes` is not implemented in the miniature")
	if (target != "") {
		if (!parse(target, 0)) return fail(message)
		if (S != "" && verb != "show") return usage(verb " of a part of a package is not implemented in the miniature")
		if (O != "" && !((P, S, O) in kind)) return fail("Entry not found")
		return each(verb, P, S, O)
	}
	save()
	n = packages(verb == "commit" || verb == "revert", list)
	bad = 0
	for (i = 1; i <= n; i++) if (load(list[i])) { if (each(verb, list[i], "", "")) bad = 1 } else bad = 1
	return bad
}

function each(verb, p, s, o,    i) {
	if (verb == "export") { printf "package %s\n", p; write(p, "/dev/stdout"); print ""; return 0 }
	if (verb == "show") {
		for (i = 0; i < count[p]; i++) if (s == "" || s == id[p, i]) show(p, id[p, i], o)
		return 0
	}
	save()
	if (verb == "revert") { system("rm -f " quote(staged "/" p)); forget(p); return 0 }
	# Read again, so that a symbolic link in /etc/config keeps its place and the file its mode.
	if (system("[ ! -f " quote(staged "/" p) " ] || { [ -e " quote(config "/" p) " ] && cat " quote(staged "/" p) " >" \
		quote(config "/" p) " || ( umask 077; cat " quote(staged "/" p) " >" quote(config "/" p) "); } && rm -f " quote(staged "/" p)))
		return fail("I/O error")
	return 0
}

function show(p, s, only,    parts, n, i, j, prefix, text) {
	prefix = p "." (unnamed[p, s] && !generated ? reference(p, s) : s)
	if (only == "") print prefix "=" type[p, s]
	n = split(names[p, s], parts, " ")
	for (i = 1; i <= n; i++) {
		if (only != "" && only != parts[i]) continue
		if (kind[p, s, parts[i]] == "option") text = quote(value[p, s, parts[i]])
		else {
			text = quote(item[p, s, parts[i], 1])
			for (j = 2; j <= length_of[p, s, parts[i]]; j++) text = text separator quote(item[p, s, parts[i], j])
		}
		print prefix "." parts[i] "=" text
	}
}

function reference(p, s,    i, n) {
	n = 0
	for (i = 0; i < count[p] && id[p, i] != s; i++) if (type[p, id[p, i]] == type[p, s]) n++
	return "@" type[p, s] "[" n "]"
}

function quote(text) {
	gsub(/'/, "'\\''", text)
	return "'" text "'"
}

function packages(only_staged, list,    command, line, n) {
	n = 0
	command = "ls " quote(only_staged ? staged : config) " 2>/dev/null"
	while ((command | getline line) > 0) if (line ~ /^[A-Za-z0-9_-]+$/) list[++n] = line
	close(command)
	return n
}

function batch(    line, bad) {
	bad = 0
	while ((getline line < "/dev/stdin") > 0) {
		words = 0
		if (!tokens(line "\n", "batch")) { bad = fail("Parse error"); continue }
		if (words && run()) bad = 1
	}
	return bad
}

function import_package(p,    line, text) {
	if (p !~ /^[A-Za-z0-9_-]+$/) return fail("Invalid argument")
	text = ""
	while ((getline line < "/dev/stdin") > 0) text = text line "\n"
	forget(p)
	count[p] = 0
	loaded[p] = 1
	if (!tokens(text, p)) return fail("Parse error")
	changed[p] = 1
	return 0
}

function load(p,    file, line, text, ok) {
	if (p in loaded) return 1
	file = staged "/" p
	if ((getline line < file) < 0) file = config "/" p
	close(file)
	text = ""
	while ((ok = (getline line < file)) > 0) text = text line "\n"
	if (ok < 0) return 0
	close(file)
	count[p] = 0
	loaded[p] = 1
	if (tokens(text, p)) return 1
	print "uci: Parse error in " file > "/dev/stderr"
	forget(p)
	return 0
}

function forget(p,    key, parts) {
	for (key in kind) { split(key, parts, SUBSEP); if (parts[1] == p) drop_option(p, parts[2], parts[3]) }
	for (key in type) { split(key, parts, SUBSEP); if (parts[1] == p) { delete type[key]; delete names[key]; delete unnamed[key] } }
	count[p] = 0
	delete loaded[p]
	delete changed[p]
}

# Reads words with quotes and escapes. For a package each line becomes a statement; for `batch` the words stay in word[].
function tokens(text, into,    at, n, c, state, current, started) {
	state = ""; current = ""; started = 0; words = 0; inside = ""
	n = length(text)
	for (at = 1; at <= n; at++) {
		c = substr(text, at, 1)
		if (state == "'") { if (c == "'") state = ""; else current = current c; continue }
		if (state == "\"") {
			if (c == "\"") state = ""
			else if (c == "\\") current = current substr(text, ++at, 1)
			else current = current c
			continue
		}
		if (c == "'" || c == "\"") { state = c; started = 1; continue }
		if (c == "\\") { current = current substr(text, ++at, 1); started = 1; continue }
		if (c == "#" && !started) { while (at < n && substr(text, at + 1, 1) != "\n") at++; continue }
		if (c == " " || c == "\t" || c == "\r" || c == "\n" || (c == ";" && into != "batch")) {
			if (started) { word[words++] = current; current = ""; started = 0 }
			if (c == "\n" && into != "batch" && words) { if (!statement(into)) return 0; words = 0 }
			continue
		}
		current = current c; started = 1
	}
	return state == ""
}

function statement(p,    name) {
	if (word[0] == "package") return words == 2
	if (word[0] == "config") {
		if (words < 2 || words > 3) return 0
		name = words == 3 && word[2] != "" ? word[2] : new_name(p, word[1])
		if (!((p, name) in type)) new_section(p, name, !(words == 3 && word[2] != ""))
		type[p, name] = word[1]
		inside = name
		return 1
	}
	if (inside == "" || words != 3) return 0
	if (word[0] == "option") { put_option(p, inside, word[1], word[2]); return 1 }
	if (word[0] == "list") { put_item(p, inside, word[1], word[2]); return 1 }
	return 0
}

function new_section(p, name, without_name) {
	id[p, count[p]++] = name
	unnamed[p, name] = without_name
	names[p, name] = ""
}

# A name for a section that has none: its place and a number from its type, as libuci shapes them.
function new_name(p, t,    place, name, hash, i) {
	place = count[p] + 1
	hash = 5381
	for (i = 1; i <= length(t); i++) hash = (hash * 33 + index("abcdefghijklmnopqrstuvwxyz0123456789-_ABCDEFGHIJKLMNOPQRSTUVWXYZ", substr(t, i, 1))) % 65536
	do name = sprintf("cfg%02x%04x", place++, hash); while ((p, name) in type)
	return name
}

function put_option(p, s, o, v) {
	if ((p, s, o) in kind && kind[p, s, o] == "list") drop_option(p, s, o)
	if (!((p, s, o) in kind)) names[p, s] = names[p, s] (names[p, s] == "" ? "" : " ") o
	kind[p, s, o] = "option"
	value[p, s, o] = v
}

function put_item(p, s, o, v) {
	if ((p, s, o) in kind && kind[p, s, o] == "option") drop_option(p, s, o)
	if (!((p, s, o) in kind)) { names[p, s] = names[p, s] (names[p, s] == "" ? "" : " ") o; length_of[p, s, o] = 0 }
	kind[p, s, o] = "list"
	item[p, s, o, ++length_of[p, s, o]] = v
}

function drop_option(p, s, o,    parts, n, i, left) {
	delete kind[p, s, o]; delete value[p, s, o]; delete length_of[p, s, o]
	n = split(names[p, s], parts, " ")
	left = ""
	for (i = 1; i <= n; i++) if (parts[i] != o) left = left (left == "" ? "" : " ") parts[i]
	names[p, s] = left
}

function write(p, file,    i, j, k, s, parts, n) {
	for (i = 0; i < count[p]; i++) {
		s = id[p, i]
		printf "\nconfig %s%s\n", type[p, s], (unnamed[p, s] ? "" : " " quote(s)) > file
		n = split(names[p, s], parts, " ")
		for (j = 1; j <= n; j++) {
			if (kind[p, s, parts[j]] == "option") printf "\toption %s %s\n", parts[j], quote(value[p, s, parts[j]]) > file
			else for (k = 1; k <= length_of[p, s, parts[j]]; k++) printf "\tlist %s %s\n", parts[j], quote(item[p, s, parts[j], k]) > file
		}
	}
}

# Changed packages go to the staging folder, each under its final name only when whole.
function save(    p, file) {
	for (p in changed) {
		file = staged "/." p ".new"
		printf "" > file
		write(p, file)
		close(file)
		system("mv " quote(file) " " quote(staged "/" p))
		delete changed[p]
	}
}
