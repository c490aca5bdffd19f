package raftstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"machineid/internal/testkit/released"
)

// asJSON are the files of a data folder and the messages between nodes that are JSON.
var asJSON = map[string]any{
	"greeting": &Greeting{}, "welcome": &Welcome{}, "reach": &Reach{}, "question": &ownQuestion{}, "status": &NodeStatus{},
	"IDENT": &ident{}, "STATE": &pointer{}, "BACKUP": &backedUp{}, "ORIGIN": &origin{}, "archive": &archiveHeader{},
}

// fillAll gives everything in v a value of its own that is not zero.
func fillAll(v reflect.Value, n *int64) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(time.Unix(1_700_000_000+*n, 5_000_000).UTC()))
		return
	case []byte:
		v.SetBytes(fmt.Appendf(nil, "\x00\xff bytes %d", *n))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillAll(v.Field(i), n)
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fillAll(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fillAll(v.Index(0), n)
		fillAll(v.Index(1), n)
	case reflect.Map:
		value := reflect.New(v.Type().Elem()).Elem()
		fillAll(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf(fmt.Sprint("key", *n)), value)
	case reflect.String:
		v.SetString(fmt.Sprintf("α text %d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(-*n << 40)
	case reflect.Uint64:
		v.SetUint(uint64(*n) << 50)
	default:
		panic(v.Kind().String() + " is not filled yet")
	}
}

// TestReleasedMessages: what a release wrote into its small files and said to other nodes is read as it was meant, and written by the same bytes:
// no field is gone, has another name, or has come without being left out where it is not set.
func TestReleasedMessages(t *testing.T) {
	const version = "v0.1.0" // raftstore knows no release; whoever writes the next one's says here which it is
	released.Each(t, version, "messages.txt", func(t *testing.T, dir string) {
		var lines []released.Line
		n := int64(0)
		for _, name := range slices.Sorted(maps.Keys(asJSON)) {
			v := reflect.New(reflect.TypeOf(asJSON[name]).Elem())
			fillAll(v.Elem(), &n)
			raw, text := must[[]byte](t)(json.Marshal(v.Interface())), must[[]byte](t)(json.MarshalIndent(v.Interface(), "", " "))
			lines = append(lines, released.Line{Name: name, Text: string(text), Raw: raw})
		}
		released.Write(t, filepath.Join(dir, "messages.txt"), lines)
	}, func(t *testing.T, dir string) {
		for _, l := range released.Read(t, filepath.Join(dir, "messages.txt")) {
			want, got := reflect.New(reflect.TypeOf(asJSON[l.Name]).Elem()).Interface(), reflect.New(reflect.TypeOf(asJSON[l.Name]).Elem()).Interface()
			strict := json.NewDecoder(bytes.NewReader([]byte(l.Text)))
			strict.DisallowUnknownFields()
			if err := strict.Decode(want); err != nil {
				t.Errorf("%s: %v", l.Name, err)
			}
			if err := json.Unmarshal(l.Raw, got); err != nil {
				t.Errorf("%s: %v", l.Name, err)
			}
			if !reflect.DeepEqual(want, got) {
				t.Errorf("%s is read as %+v, its text says %+v", l.Name, got, want)
			}
			if again := must[[]byte](t)(json.Marshal(got)); !bytes.Equal(again, l.Raw) {
				t.Errorf("%s is written as %s, was %s", l.Name, again, l.Raw)
			}
		}
	})
}
