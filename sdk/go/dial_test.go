package machineid

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestNoAddressTakesTheTimeOfTheOthers: of the addresses of a name one that answers is reached, whatever becomes of what is sent to those before it.
func TestNoAddressTakesTheTimeOfTheOthers(t *testing.T) {
	for name, tt := range map[string]struct {
		addresses string
		want      string
		took      time.Duration
	}{
		"one":             {"good", "good:1", 0},
		"behind silence":  {"silent silent good", "good:1", 2 * stagger},
		"behind refusals": {"closed closed good", "good:1", 0},
		"before silence":  {"good silent", "good:1", 0},
		"none answers":    {"silent silent", "", time.Second},
		"none is there":   {"closed closed", "", 0},
		"none is known":   {"", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				reached := ""
				d := dialer{
					lookUp: func(context.Context, string) ([]string, error) { return strings.Fields(tt.addresses), nil },
					connect: func(ctx context.Context, _, address string) (net.Conn, error) {
						switch host, _, _ := net.SplitHostPort(address); host {
						case "good":
							reached = address
							c, _ := net.Pipe()
							return c, nil
						case "closed":
							return nil, errors.New("refused")
						}
						<-ctx.Done()
						return nil, ctx.Err()
					},
				}
				began := time.Now()
				c, err := d.dial(ctx, "tcp", "name:1")
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %s, want %s", took, tt.took)
				}
				if (c == nil) != (tt.want == "") || (err == nil) != (tt.want != "") || reached != tt.want {
					t.Errorf("reached %q, %v, %v; want %q", reached, c, err, tt.want)
				}
			})
		})
	}
}
