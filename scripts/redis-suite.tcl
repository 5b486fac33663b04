# Runs one unit of Redis' test suite against our server, and tells each test's outcome on standard
# output as a line of three fields, parted by tabs:
#
#     @testing  name
#     @ok|@err|@skip  name  detail
#     @died  name        the server no longer answers; nothing more is run
#     @done  unit
#
# The suite's own runner gives up a unit at its first exception. Here every top-level command of a
# unit, and of the blocks in it, is run on its own: what fails is told, and the rest goes on.
#
# Usage: tclsh redis-suite.tcl UNIT SKIPFILE ONLYFILE against PORT
#        tclsh redis-suite.tcl UNIT SKIPFILE ONLYFILE start SERVER ENGINE FOLDER PORT PORTS
# The working directory is the suite's. A file has a name (or /regexp) of a test in each line; those of
# an empty ONLYFILE are all. Either all tests go to the server at a port, and those that ask for one of
# their own are skipped; or each block of tests gets a server of its own, as its configuration wants it.

lassign $::argv unit skip_file only_file mode
set mode_arguments [lrange $::argv 4 end]
set ::argv [list --client 0 --tags -slow --skipfile $skip_file]
set in [open $only_file r]
foreach name [split [read $in] "\n"] {
    if {$name ne ""} { lappend ::argv --only $name }
}
close $in
switch $mode {
    against { lappend ::argv --host 127.0.0.1 --port [lindex $mode_arguments 0] }
    start {
        lassign $mode_arguments server engine folder first_port ports
        lappend ::argv --baseport $first_port --portcount $ports
    }
    default { error "unknown mode $mode" }
}
# Exceptions are told as failures.
lappend ::argv --durable

fconfigure stdout -encoding utf-8 -buffering line -translation lf

proc tell {event name {detail ""}} {
    set clean [list "\t" " " "\r" "\\r" "\n" "\\n" "\0" "\\0"]
    puts "@$event\t[string map $clean $name]\t[string map $clean [string range $detail 0 2000]]"
}

# The name of the test in hand; empty between tests.
set ::test_in_hand ""

# Whether the server answers.
proc answers {} {
    set port [expr {[llength $::servers] ? [srv 0 port] : $::port}]
    return [expr {![catch {ping_server $::host $port} up] && $up}]
}

# After a failure: a client in an unknown state is replaced; without a server nothing goes on.
proc recover {name} {
    if {[llength $::servers] == 0 && !$::external} return
    if {![answers]} {
        tell died $name
        exit 3
    }
    catch {reconnect}
}

# What is told of something that failed between tests.
proc fail_between_tests {what error} {
    set first [lindex [split [string trim $what] "\n"] 0]
    set name "outside a test: $first"
    tell err $name "$error\n$::errorInfo"
    recover $name
}

# Runs the commands of a block one by one in the caller's frame. Inside a test the block is part of
# it, and fails with it.
proc run_each {block} {
    if {$::test_in_hand ne ""} {
        return [uplevel 1 $block]
    }
    set command ""
    foreach line [split $block "\n"] {
        append command $line "\n"
        if {![info complete $command]} continue
        if {[string trim $command] ne "" && [catch {uplevel 1 $command} error] == 1} {
            fail_between_tests $command $error
        }
        set command ""
    }
    if {[string trim $command] ne ""} {
        fail_between_tests $command "incomplete command"
    }
}

# Tells of the tests in a block that were not run.
proc tell_not_run {outcome block why} {
    foreach {_ _ quoted braced} [regexp -all -inline -line {^\s*test\s+("([^"]*)"|\{([^\}]*)\})} $block] {
        set name [expr {$quoted ne "" ? $quoted : $braced}]
        if {![info exists ::was_run($name)]} { tell $outcome $name $why }
    }
}

# In the place of procedures of the suite. Those named here are kept when the suite defines its own;
# its own remain reachable as suite_NAME.
set ::replaced {
    send_data_packet run_external_server_test spawn_server wait_server_started test_client_main
}
set ::wrapped {test tags start_server}

# The suite's messages to its runner.
proc send_data_packet {fd status data {elapsed 0}} {
    set name $::test_in_hand
    switch $status {
        testing { tell testing $name }
        ok { tell ok $name $elapsed }
        skip { tell skip $name "not asked for" }
        ignore {
            if {$name ne ""} { tell skip $name $data } else { set ::ignored_because $data }
        }
        err {
            set detail [join [lrange [split $data "\n"] 1 end] "\n"]
            # Of an exception the message begins in the middle; the trace has all of it.
            if {[string match "*while executing*" $detail]} { set detail $::errorInfo }
            if {$name eq ""} {
                fail_between_tests $data $data
            } else {
                tell err $name $detail
                set ::has_failed 1
            }
        }
    }
}

proc wrapped_test {name code {okpattern undefined} {tags {}}} {
    set outer $::test_in_hand
    set depth [llength $::servers]
    set ::test_in_hand $name
    set ::was_run($name) 1
    set ::has_failed 0
    if {[catch {uplevel 1 [list suite_test $name $code $okpattern $tags]} error]} {
        tell err $name "$error\n$::errorInfo"
        set ::has_failed 1
    }
    set ::test_in_hand $outer
    if {$::has_failed} {
        # Servers of its own it may have left behind.
        set ::servers [lrange $::servers 0 [expr {$depth - 1}]]
        recover $name
    }
}

proc wrapped_tags {tags code} {
    set ::ignored_because ""
    uplevel 1 [list suite_tags $tags [list run_each $code]]
    if {$::ignored_because ne ""} { tell_not_run skip $code $::ignored_because }
    set ::ignored_because ""
}

proc wrapped_start_server {options {code undefined}} {
    set ::ignored_because ""
    set kept $::tags
    set run [expr {$code eq "undefined" ? $code : [list run_each $code]}]
    set depth [llength $::servers]
    set failed [catch {uplevel 1 [list suite_start_server $options $run]} result info]
    set ::tags $kept
    if {$failed == 1 && $::test_in_hand eq "" && $code ne "undefined"} {
        set ::servers [lrange $::servers 0 [expr {$depth - 1}]]
        tell err "outside a test: start_server $options" $result
        tell_not_run err $code $result
        return
    }
    if {$::ignored_because ne ""} { tell_not_run skip $code $::ignored_because }
    set ::ignored_because ""
    return -options $info $result
}

# Lines of the suite's configurations that say nothing of the server: files that all would share, and
# what is not there.
set ::left_out {pidfile unixsocket enable-module-command engine workers io-threads}

# Starts a server in the place of Redis' own.
proc spawn_server {config_file stdout stderr args} {
    set in [open $config_file r]
    set lines [split [read $in] "\n"]
    close $in
    set out [open $config_file w]
    foreach line $lines {
        # What keeps data here is the log.
        set name [lindex [split $line] 0]
        if {$name in $::left_out || $line eq "appendonly no"} continue
        # The limits of this unit are 100 KiB above what is used: what is kept for notifications is more.
        if {$::unit eq "unit/maxmemory" && $name eq "notify-keyspace-events"} continue
        puts $out $line
    }
    # One worker: the tests take it for granted that what one client sent first is done first.
    puts $out "engine $::engine\nworkers 1"
    close $out
    # All is in the log, the other file is only looked at.
    close [open $stderr a]
    return [exec $::server $config_file {*}[lindex $args 0] >> $stdout 2>@1 &]
}

# Whether a server listens and has opened its engine.
proc is_ready {port} {
    return [expr {![catch {
        set connection [socket $::host $port]
        fconfigure $connection -translation binary
        puts -nonewline $connection "PING\r\n"
        flush $connection
        set reply [gets $connection]
        close $connection
    }] && $reply ne "" && ![string match -LOADING* $reply]}]
}

# Waits until a server is ready, and notes in its log what the suite looks for there.
proc wait_server_started {config_file stdout pid} {
    set port [exec sed -n {s/^port //p} $config_file]
    for {set tries 0} {$tries < 600} {incr tries} {
        if {[is_ready $port]} {
            set out [open $stdout a]
            puts $out "Ready to accept connections"
            close $out
            return 0
        }
        if {[catch {exec kill -0 $pid}]} break
        after 50
    }
    error "the server does not start: [exec tail -n 3 $stdout]"
}

# A "server" of a unit is the one that is up: emptied, and set as the unit wants it.
proc run_external_server_test {code overrides} {
    set client [redis $::host $::port 0 $::tls]
    $client select 9
    lappend ::servers [dict create host $::host port $::port client $client \
        config [dict create port $::port]]
    set depth [llength $::servers]
    foreach command {flushall {function flush}} {
        if {[catch {r {*}$command} error]} { fail_between_tests $command $error }
    }
    set restore {}
    foreach {name value} $overrides {
        if {[catch {
            set before [lindex [r config get $name] 1]
            r config set $name $value
            lappend restore $name $before
        } error]} {
            fail_between_tests "config set $name {$value}" $error
        }
    }
    set failed [catch {uplevel 2 $code} result info]
    set ::servers [lrange $::servers 0 [expr {$depth - 1}]]
    foreach {name value} $restore {
        if {[catch {r config set $name $value} error]} {
            fail_between_tests "config set $name {$value} (restored)" $error
        }
    }
    catch {[srv 0 client] close}
    set ::servers [lrange $::servers 0 end-1]
    return -options $info $result
}

# Called by the suite when all of it is defined.
proc test_client_main {_} {
    set ::test_server_fd ""
    if {!$::external} { set ::tmproot $::folder }
    set ::curfile "tests/$::unit.tcl"
    set in [open $::curfile r]
    set text [read $in]
    close $in
    run_each $text
    tell done $::unit
    exit 0
}

rename proc define
define proc {name arguments body} {
    if {$name in $::replaced && [info commands ::$name] ne ""} return
    if {$name in $::wrapped} {
        uplevel 1 [list define suite_$name $arguments $body]
        uplevel 1 [list interp alias {} $name {} wrapped_$name]
        return
    }
    uplevel 1 [list define $name $arguments $body]
}

source tests/test_helper.tcl
