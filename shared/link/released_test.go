package link

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"machineid/internal/testkit/released"
	"machineid/shared/release"
)

// TestReleasedFrames: each frame that an edge or the authority of a release sends is read as it was meant, by the codec that reads the link, and this
// program sends it by the same bytes.
func TestReleasedFrames(t *testing.T) {
	both := map[string]proto.Message{"to_authority": &ToAuthority{}, "to_edge": &ToEdge{}}
	write := func(m proto.Message) ([]byte, error) {
		data, err := newCodec().Marshal(m)
		return data.Materialize(), err
	}
	read := func(raw []byte, m proto.Message) error {
		return newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(raw)}, m)
	}
	released.Each(t, release.Version(), "frames.txt", func(t *testing.T, dir string) {
		f := released.NewFilling()
		var lines []released.Line
		for _, name := range []string{"to_authority", "to_edge"} {
			of := both[name].ProtoReflect()
			whole := of.New()
			f.Fill(whole)
			if missing := f.Missing(of.Descriptor()); len(missing) > 0 {
				t.Fatalf("not filled: %v", missing)
			}
			lines = append(lines, released.LineOf(t, name, whole.Interface(), write))
			for i := range of.Descriptor().Fields().Len() { // and a frame of each part alone
				fd, part := of.Descriptor().Fields().Get(i), of.New()
				part.Set(fd, whole.Get(fd))
				lines = append(lines, released.LineOf(t, fmt.Sprintf("%s/%s", name, fd.Name()), part.Interface(), write))
			}
		}
		released.Write(t, filepath.Join(dir, "frames.txt"), lines)
	}, func(t *testing.T, dir string) {
		for _, l := range released.Read(t, filepath.Join(dir, "frames.txt")) {
			name, _, _ := strings.Cut(l.Name, "/")
			for _, fault := range l.Faults(both[name].ProtoReflect().New().Interface(), write, read) {
				t.Error(fault)
			}
		}
	})
}
