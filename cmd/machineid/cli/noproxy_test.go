//go:build unix

package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// TestNoProxySeesAToken: the proxies that an environment names are asked by no command that carries an operator's token.
func TestNoProxySeesAToken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			_ = c.Close()
		}
	}()
	var env []string
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"} {
		env = append(env, name+"=http://"+l.Addr().String())
	}
	env = append(env, "NO_PROXY=", "no_proxy=", operatorTokenEnv+"="+strings.Repeat("token", 10))
	for _, args := range [][]string{
		// The address is of no loopback, which no proxy is asked for, and leads nowhere.
		{"cluster", "status", "--operator-url", "http://192.0.2.1:1", "--timeout", "1s"},
		{"org", "list", "--operator-url", "http://192.0.2.1:1", "--timeout", "1s"},
		{"cluster", "status", "--operator-url", "https://machineid.invalid", "--timeout", "1s"},
	} {
		cmd := exec.CommandContext(t.Context(), self, args...)
		cmd.Env = slices.Concat(bareEnviron(), []string{runMainEnv + "=1"}, env)
		if _, err := cmd.StdinPipe(); err != nil { // it ends when this test does
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); err == nil || code != exitUnavailable {
			t.Errorf("%v ended with %d: %s", args, code, out)
		}
		if n := asked.Load(); n != 0 {
			t.Fatalf("%v asked a proxy", args)
		}
	}
}

// mayUseProxies are the files whose requests go to others' servers, with credentials that are theirs.
var mayUseProxies = []string{"authority/billing/billing.go"}

// TestNoClientKnowsProxies: nothing else makes requests by what the environment says. net/http's usual client and transport do, and gRPC does unless it is told how to connect.
func TestNoClientKnowsProxies(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..", "..")
	bad := map[string]bool{
		"http.DefaultClient": true, "http.DefaultTransport": true, "http.ProxyFromEnvironment": true, "http.Get": true, "http.Post": true, "http.Head": true, "http.PostForm": true,
		"fasthttpproxy.FasthttpProxyHTTPDialer": true, "proxy.FromEnvironment": true,
	}
	files := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		for _, may := range mayUseProxies {
			if rel, _ := filepath.Rel(root, path); filepath.ToSlash(rel) == may {
				return nil
			}
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		files++
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && bad[x.Name+"."+n.Sel.Name] {
					t.Errorf("%s uses %s.%s: make a transport without a proxy", path, x.Name, n.Sel.Name)
				}
			case *ast.CompositeLit:
				if s, ok := n.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Client" {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "http" && !named(n, "Transport") {
						t.Errorf("%s makes an http.Client without a Transport: that is the usual one", path)
					}
				}
			}
			return true
		})
		return nil
	})
	if err != nil || files < 100 {
		t.Fatalf("%d files were looked at: %v", files, err)
	}
}

// named tells whether a literal names a field.
func named(lit *ast.CompositeLit, field string) bool {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if id, ok := kv.Key.(*ast.Ident); ok && id.Name == field {
				return true
			}
		}
	}
	return false
}
