package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// loader gathers the values of one command and what is wrong with them.
type loader struct {
	settings *Settings
	cmd      *cobra.Command

	fromEnv  map[string]string
	fromFile map[string]entry

	origins map[string]string // setting -> where its value was written
	broken  map[string]bool   // settings whose value could not be parsed
	faults  []error
}

func (l *loader) fault(origin, problem, remedy string) {
	l.faults = append(l.faults, &faultError{origin: origin, problem: problem, remedy: remedy})
}

// environment reads the variables that are settings. The last of two equal names counts, as it does for getenv of most systems.
func (l *loader) environment() {
	l.fromEnv = map[string]string{}
	for _, pair := range l.settings.environ {
		name, value, _ := strings.Cut(pair, "=")
		rest, ours := strings.CutPrefix(name, prefix)
		if !ours || rest == "" || l.settings.isForeign(name, value) {
			continue
		}
		setting := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		if l.settings.known[setting] == nil || variable(setting) != name {
			l.fault("env "+name, "no such setting", l.didYouMean(setting, l.every(), variable, "unset it"))
			continue
		}
		l.fromEnv[setting] = value
	}
}

// serviceLink finds the variables that Kubernetes puts into every container for every service of the namespace: for one named
// machineid-edge, MACHINEID_EDGE_SERVICE_HOST, MACHINEID_EDGE_PORT_8080_TCP and so on.
var serviceLink = regexp.MustCompile(`_SERVICE_(HOST|PORT)(_[A-Z0-9_]+)?$|_PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?$`)

func isServiceLink(name, value string) bool {
	return serviceLink.MatchString(name) || strings.HasSuffix(name, "_PORT") && strings.Contains(value, "://")
}

// file reads the settings that stand in a file. An empty path is no file.
func (l *loader) file(path string) {
	if path == "" {
		return
	}
	text, err := os.ReadFile(path)
	if err != nil {
		l.fault(l.origins[configFlag], fmt.Sprintf("read the settings: %v", err), "name a file that can be read")
		return
	}
	var entries []entry
	entries, faults := parse(path, text)
	l.faults = append(l.faults, faults...)
	l.fromFile = map[string]entry{}
	for _, e := range entries {
		switch {
		case e.name == configFlag:
			l.fault(e.origin, "a file cannot name another one", "remove the line")
		case l.settings.known[e.name] == nil:
			l.fault(e.origin, strconv.Quote(e.name)+" is no setting", l.didYouMean(e.name, l.every(), identity, "remove the line"))
		default:
			l.fromFile[e.name] = e
		}
	}
}

// set gives a flag the value of its first source, and notes what that was.
func (l *loader) set(f *pflag.Flag) {
	d, ok := f.Value.(*deferred)
	if !ok {
		return // cobra's own --help
	}
	values, origin := d.given, "flag --"+f.Name
	if _, typed := f.Annotations[typedOnly]; typed && len(values) == 0 {
		return
	}
	if len(values) == 0 {
		if value := l.fromEnv[f.Name]; value != "" {
			values, origin = []string{value}, "env "+variable(f.Name)
		} else if e, found := l.fromFile[f.Name]; found {
			values, origin = []string{e.value}, e.origin
		} else {
			return
		}
	}
	l.origins[f.Name] = origin
	f.Changed = true
	for _, value := range values {
		if !utf8.ValidString(value) && !isPath(f) {
			l.broken[f.Name] = true
			l.fault(origin, fmt.Sprintf("%q is no text in UTF-8", value), NoText)
			continue
		}
		err := checkForm(d.Type(), value)
		if err == nil {
			err = d.Value.Set(value)
		}
		if err != nil {
			l.broken[f.Name] = true
			problem, remedy := explain(d.Type(), value, err)
			l.fault(origin, problem, remedy)
		}
	}
}

// NoText is the way out for who gave what is no text in UTF-8.
const NoText = "write it in UTF-8: the terminal, the script or the file that it comes from may be in another encoding"

// isPath reports whether a flag names a file or a folder, of which a name is any bytes.
func isPath(f *pflag.Flag) bool {
	name, _ := pflag.UnquoteUsage(f)
	return name == "FILE" || name == "DIR"
}

// commandLine says why pflag could not read the command line, of which it has seen nothing further.
func (l *loader) commandLine(err error) {
	var missing *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	switch {
	case errors.As(err, &missing) && missing.GetSpecifiedShortnames() != "":
		l.fault("flag -"+missing.GetSpecifiedName(), "no such flag", l.help())
	case errors.As(err, &missing):
		l.noFlag(missing.GetSpecifiedName())
	case errors.As(err, &bare):
		name := bare.GetFlag().Name
		_, remedy := explain(bare.GetFlag().Value.Type(), "", nil)
		l.broken[name] = true
		l.fault("flag --"+name, "needs a value", remedy)
	default:
		l.fault("command line", err.Error(), l.help())
	}
}

// noFlag says of a flag that the command lacks what was meant: one of its own, or what it takes without a flag.
func (l *loader) noFlag(name string) {
	origin := "flag --" + name
	for word := range strings.FieldsSeq(l.cmd.Use) {
		if strings.Trim(word, "[].") == strings.ToUpper(strings.ReplaceAll(name, "-", "_")) {
			l.fault(origin, "no such flag", "it is given without one: "+l.cmd.UseLine())
			return
		}
	}
	var own []string
	l.cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			own = append(own, f.Name)
		}
	})
	if owners := l.settings.known[name]; owners != nil {
		l.fault(origin, "not a flag of "+l.cmd.CommandPath(), "it belongs to "+strings.Join(owners, " and "))
		return
	}
	l.fault(origin, "no such flag", l.didYouMean(name, own, func(name string) string { return "--" + name }, "remove it"))
}

// invalid adds what a command's own validation found.
func (l *loader) invalid(err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range joined.Unwrap() {
			l.invalid(one)
		}
		return
	}
	about, problem, named := strings.Cut(err.Error(), ": ")
	name, dashed := strings.CutPrefix(about, "--")
	if !named || !dashed || l.cmd.Flag(name) == nil {
		l.faults = append(l.faults, err)
		return
	}
	if l.broken[name] {
		return
	}
	origin := l.origins[name]
	if origin == "" {
		origin = "--" + name + " (not set)"
	}
	l.faults = append(l.faults, &faultError{origin: origin, problem: problem, cause: err})
}

// every lists the names of all settings.
func (l *loader) every() []string { return slices.Sorted(maps.Keys(l.settings.known)) }

// didYouMean names the candidate nearest to name in the form of its source, or gives the other way out.
func (l *loader) didYouMean(name string, candidates []string, form func(string) string, otherwise string) string {
	if near := Nearest(strings.ToLower(name), candidates); near != "" {
		return "did you mean " + form(near) + "?"
	}
	return otherwise + ", or " + l.help()
}

func (l *loader) help() string {
	return `run "` + l.cmd.CommandPath() + ` --help" for every setting`
}

func identity(name string) string { return name }
